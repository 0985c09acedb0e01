//! What is said on realtime sockets: which messages name a model, which tell what was used.
