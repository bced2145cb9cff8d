# Python node of NIS-Elements GA3, v6.20. How to use it: README.md of this module.
import os
import sys

import limnode  # must be imported exactly like this

# The next line says where the folder external_modules is: edit it, or set the variable EXTERNAL_MODULES_PATH.
sys.path.insert(0, os.path.join(os.environ.get("EXTERNAL_MODULES_PATH", r"C:\external_modules"), "src"))
try:
    from external_modules.external_module_base import ExternalModuleNode, GA3NodeMixin
finally:
    del sys.path[0]


class CellposeNode(ExternalModuleNode, GA3NodeMixin):
    MODULE_NAME = "cellpose_module"
    WORKER_SCRIPT = "worker.py"

    def process_image(self, image, **params):
        return self.call_worker(self.WORKER_SCRIPT, input_image=image, **params)


node = CellposeNode()


def output(inp, out):
    node.define_outputs(inp, out, name="cells", color="#FFFF00")


def build(loops):
    return None


def run(inp, out, ctx):
    node.run_2d(inp, out, ctx, model="cyto3", diameter=None, flow_threshold=0.4, cellprob_threshold=0.0)


if __name__ == "__main__":
    limnode.child_main(run, output, build)
