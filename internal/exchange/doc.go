// Package exchange sends one HTTP request to one address and reads the whole answer, within bounds. The public packages
// client and verify, the calls between nodes, and the forwarding of requests to the leader share it, so that all report
// errors in the same way and none depends on another. It does not choose the address, does not retry, and does not put
// a token into an error.
package exchange
