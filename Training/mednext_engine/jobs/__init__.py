"""Jobs: the messages (`protocol`), the resident process that answers them (`worker`), a client."""
