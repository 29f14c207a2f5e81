"""The link to an OPC UA server: reads its nodes into tags, writes outputs, keeps output leases."""
