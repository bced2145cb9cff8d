"""Pure functions on annotations: geometry, selection by tag and place, batch ranges, values of a tool's form.

Importing any module of this package is cheap: numpy, shapely and rasterio are loaded by the functions that compute with
them.
"""
