// Package immudb is a minimal client of an immudb server, for the benchmark: sessions, sets, and gets whose proofs are
// verified. It speaks the server's gRPC interface with the few messages that it needs (message.go), and imports nothing
// of immudb.
//
// A transaction has a header. Its hash, which immudb calls accumulative linear hash, covers the root of the tree of the
// transaction's entries, the previous transaction's hash, and the root of the tree of the hashes of transactions before
// it. Both trees have the form of RFC 6962. A client that trusts the header of one transaction verifies an entry of an
// earlier one by two inclusion proofs (proof.go): of the entry in its transaction, and of that transaction in the tree
// of the trusted one. The proofs that a client needs only to trust a newer header, of consistency, are not verified:
// the trusted header is that of the client's own last set.
package immudb
