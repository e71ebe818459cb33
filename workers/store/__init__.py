"""The S3-compatible destination, behind one `ObjectStore`."""
