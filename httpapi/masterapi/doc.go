// Package masterapi serves a master over HTTP: the API of users, which openapi.yaml describes, the routes between the
// nodes of a cluster, metrics, and the console.
//
// Every route names in its line of [New] who may use it; access.go has the choices. Reads and appends are answered by
// any master. Administration runs on the leader: leader.go forwards it. An append and the wait for its block or
// receipt are separate paths: append.go appends, waitstored.go waits.
package masterapi
