// Package httpapi puts the three roles behind HTTP. It is the only package that knows gin, and no gin type leaves it.
//
// Handlers decode, call the role, and encode; they return an error, and one table (problem.go) turns errors into
// application/problem+json. A route says in its own line who may use it (auth.go).
//
//	master.go   the routes of users, and those between masters     records.go  append and read
//	projects.go projects, tokens, quotas                           original.go the original system's API
//	storage.go  the routes of a storage node                       blocks.go   headers
//	miner.go    the routes of a miner                              serve.go    the server and its end
//	console.go  the console's files, in console/                   crossorigin.go  what a page of another master may
package httpapi
