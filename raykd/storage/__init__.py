"""Storage: locations, file formats, tables, schemas and manifests."""
