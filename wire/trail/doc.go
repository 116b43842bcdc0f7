// Package trail has the records of the audit trail, the project [Project]: their acts, their binary form, and what they
// never contain. The state machine writes the records, and the command line and the console read them.
//
// A record never has a token, the hash of a token, a private key, or another secret. Package masterfsm tests that with
// marked secrets in every command.
package trail
