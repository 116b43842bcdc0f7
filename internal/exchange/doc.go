// Package exchange sends one HTTP request to one address and reads the whole answer, within bounds. The public package
// client and the internal package noderpc share it, so that both report errors in the same way and neither depends on
// the other. It does not choose the address, does not retry, and does not put a token into an error.
package exchange
