"""Model folders in nnU-Net v2's layout: read, check, write, keep, download. No torch at import."""
