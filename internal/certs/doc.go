// Package certs has the certificates of a node: it reads them from files that may be replaced while the node runs, and
// makes the configurations of TLS from them.
//
// Each node has one certificate of the cluster's certificate authority. A URI in it names the node ([Identity]), in
// the form of a SPIFFE ID (https://spiffe.io/docs/latest/spiffe-about/spiffe-concepts/): what a node may do follows
// from its role there. TLS is of version 1.3 (RFC 8446), without session tickets, so that each connection is checked
// anew.
//
// Users and nodes come through the same port. A node says in its hello that it is one, by the protocol [NodeProtocol]
// (ALPN, RFC 7301): then the server shows its certificate as a node, and the client must show one too. Others get the
// certificate for users, if there is one of its own.
package certs
