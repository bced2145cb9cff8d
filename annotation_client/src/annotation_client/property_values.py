"""Properties of annotations (measurements) and their values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from annotation_client.connection import Connection
from annotation_client.schema import encode_json

Document = dict[str, Any]

_PAGE = 10_000
_ENTRIES_AT_ONCE = 10_000


class PropertyMethods:
    """The part of `UPennContrastAnnotationClient` that deals with properties."""

    client: Connection

    def getPropertyById(self, propertyId: str) -> Document:
        """Return the definition of a property."""
        return self.client.get(f"annotation_property/{propertyId}")

    def createNewProperty(self, property: Mapping[str, Any]) -> Document:
        """Save the definition of a property and return it with its `_id`."""
        return self.client.post("annotation_property", json=property)

    def setPropertiesByConfigurationId(self, configurationId: str, propertyIdList: Sequence[str]) -> Document:
        """Set the properties that a configuration shows, and return the configuration's item."""
        metadata = json.dumps({"propertyIds": list(propertyIdList)})
        return self.client.put(f"item/{configurationId}", parameters={"metadata": metadata})

    def addAnnotationPropertyValues(self, datasetId: str, annotationId: str, values: Mapping[str, Any]) -> Any:
        """Save values of one annotation.

        Args:
            datasetId: id of the dataset's folder.
            annotationId: the annotation.
            values: property id -> number, or nested objects of numbers.
        """
        parameters = {"datasetId": datasetId, "annotationId": annotationId}
        return self._post_values("annotation_property_values", parameters, values)

    def addMultipleAnnotationPropertyValues(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Save values of many annotations, in several requests.

        Args:
            entries: each `{"datasetId", "annotationId", "values": {property id: number or nested object}}`.
        """
        for start in range(0, len(entries), _ENTRIES_AT_ONCE):
            part = list(entries[start : start + _ENTRIES_AT_ONCE])
            self._post_values("annotation_property_values/multiple", {}, part)

    def deleteAnnotationPropertyValues(self, propertyId: str, datasetId: str) -> Any:
        """Delete all values of a property in a dataset."""
        parameters = {"propertyId": propertyId, "datasetId": datasetId}
        return self.client.sendRestRequest("DELETE", "annotation_property_values", parameters)

    def getPropertyHistogram(self, propertyPath: str, datasetId: str, buckets: int = 255) -> list[Document]:
        """Return the histogram of a property (`<property id>[.<key>...]`) over a dataset."""
        parameters = {"propertyPath": propertyPath, "datasetId": datasetId, "buckets": buckets}
        return self.client.get("annotation_property_values/histogram", parameters)

    def getPropertyValuesForDataset(self, datasetId: str) -> list[Document]:
        """Return all values in a dataset: `{"annotationId", "datasetId", "values"}` each."""
        values: list[Document] = []
        while True:
            parameters = {"datasetId": datasetId, "limit": _PAGE, "offset": len(values), "sort": "_id"}
            page = self.client.get("annotation_property_values", parameters)
            values.extend(page)
            if len(page) < _PAGE:
                return values

    def getPropertyValuesForAnnotation(self, datasetId: str, annotationId: str) -> list[Document]:
        """Return the values of one annotation."""
        parameters = {"datasetId": datasetId, "annotationId": annotationId}
        return self.client.get("annotation_property_values", parameters)

    def countPropertyValuesByDatasetId(self, datasetId: str) -> dict[str, int]:
        """Return `{"count": n}`."""
        return self.client.get("annotation_property_values/count", {"datasetId": datasetId})

    def countPropertiesByConfigurationId(self, configurationId: str) -> dict[str, int]:
        """Return `{"count": n}`."""
        return self.client.get("annotation_property/count", {"configurationId": configurationId})

    def _post_values(self, path: str, parameters: Mapping[str, Any], values: Any) -> Any:
        # a value is set, not added, so that the request may arrive twice
        return self.client.sendRestRequest(
            "POST",
            path,
            parameters,
            data=encode_json(values),
            headers={"Content-Type": "application/json"},
            retry_post=True,
        )
