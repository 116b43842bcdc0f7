// Package nodeauth authenticates the calls between nodes without sending a secret. [Caller] signs requests and verifies
// answers, [Receiver] verifies requests and signs answers.
//
// Two processes that have the same secret open a session, in two small requests to [wire.PathSession]. Each side proves
// the secret with a message authentication code (MAC, HMAC-SHA256) over fresh random bytes of both. Then every request
// has a counter and a MAC over itself, and every answer a MAC over itself and the request. docs/adr/0027 has the
// reasons and the attacks, and message.go draws the bytes.
//
// A session depends on no clock. It ends when one of the processes ends, or when its secret is no longer accepted.
package nodeauth
