"""What the end-to-end tests share: the built binary, upstreams, raw HTTP and the real SDKs in their own environments."""
