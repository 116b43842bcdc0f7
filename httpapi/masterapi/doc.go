// Package masterapi serves a master over HTTP: the API of users, which openapi.yaml describes, the routes between the
// nodes of a cluster, metrics, and the console.
//
// The line that adds a route names the tokens that it takes; access.go has the choices. Any master answers reads and
// appends. Administration runs on the leader, to which forward.go forwards it. append.go appends, and waitstored.go
// waits for the block and the receipt of an append.
package masterapi
