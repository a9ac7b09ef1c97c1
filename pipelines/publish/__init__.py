"""Publishing: dataset directories that other people's tools read, and how they reach other people.

`configs` decides the files and writes them, `packed` and `parquet` are its tools; `card` and
`croissant` describe them, `manifest` lists them; `verify` checks a directory; `upload` brings it
to a folder, to S3 (`s3`) or to the Hugging Face Hub (`hub`); `mds` writes MosaicML's format.
"""
