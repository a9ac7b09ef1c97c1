"""Croissant: the dataset's description for machines (MLCommons' format, version 1.0).

`croissant.json` has every data file with its SHA-256, a set of files for each configuration and
split, and a set of records for each configuration: which fields there are, of which type, and which
column they come from. Data loaders and search engines read it; `mlcroissant validate` checks it. A
set of files is in no other, which `mlcroissant` takes for files beside croissant.json; the files
have their checksums in objects of their own.
"""

import pyarrow as pa

from pipelines.publish.card import hub_license

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "recordSet": "cr:recordSet",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_WHAT = {
    "id": "The document's name: xxh3-128 of its source, address and text.",
    "text": "The document.",
    "source": "The source of the recipe that the document comes from.",
    "domain": "What the mixture is made by.",
    "language": "ISO 639-3 code and script, or the programming language.",
    "uri": "Where the document was found.",
    "license": "The document's licence, an SPDX identifier where it is known.",
    "input_ids": "Token ids.",
    "sequence_index": "The place in the order of training.",
    "set": "The phase, or the validation set.",
    "document_ids": "Which documents fill the sequence, in order.",
    "starts": "Where in its document each piece begins, in tokens.",
    "lengths": "How long each piece is, in tokens.",
}


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        kind = kind.value_type
    return "sc:Integer" if pa.types.is_integer(kind) else "sc:Text"


def croissant(
    name: str,
    files: list[dict],
    views: dict[str, dict[str, list[str]]],
    schemas: dict[str, pa.Schema],
    licences: set[str],
    languages: list[str],
) -> dict:
    """The content of croissant.json.

    files: entries of the manifest; views: globs by configuration and split; schemas: columns by
    configuration; licences: as documents have them; languages: BCP 47 tags.
    """
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": file["path"],
            "name": file["path"],
            "contentUrl": file["path"],
            "contentSize": f"{file['bytes']} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file["sha256"],
        }
        for file in files
        if file["path"].endswith(".parquet")
    ]
    sets, records = [], []
    for config, splits in views.items():
        for split, globs in splits.items():
            sets.append(
                {
                    "@type": "cr:FileSet",
                    "@id": f"{config}/{split}",
                    "name": f"{config}/{split}",
                    "encodingFormat": "application/x-parquet",
                    "includes": globs[0] if len(globs) == 1 else globs,
                }
            )
            records.append(_record_set(config, split, schemas[config]))
    identifiers = sorted({hub_license(licence) for licence in licences})
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": f"{name}: documents, their tokens and the sequences a model is trained on, "
        "made by gristmill; how is told in README.md.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": "1.0.0",
        "license": identifiers[0] if len(identifiers) == 1 else identifiers,
        "inLanguage": languages,
        "distribution": [*objects, *sets],
        "recordSet": records,
    }


def _record_set(config: str, split: str, schema: pa.Schema) -> dict:
    name = f"{config}-{split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"Configuration {config}, split {split}.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field.name}",
                "name": f"{name}/{field.name}",
                "description": _WHAT[field.name],
                "dataType": _type(field.type),
                "source": {
                    "fileSet": {"@id": f"{config}/{split}"},
                    "extract": {"column": field.name},
                },
            }
            | ({"repeated": True} if pa.types.is_list(field.type) else {})
            for field in schema
        ],
    }
