// Package wire holds the types that travel over HTTP: between users and masters, between masters, and between masters
// and workers. It has no behaviour besides encoding, and imports nothing but chain, so that a client needs no more of
// the server.
//
// The public Go API of ChainStore consists of the packages chain, wire, client and verify. All other packages may
// change in any release.
package wire
