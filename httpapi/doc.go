// Package httpapi is the part of the HTTP servers that all roles share: the gin engine, problems, tokens, bodies,
// parameters, and the server with its end.
//
// The routes are in packages of their own, because the roles share no route:
//
//   - masterapi has the API of users and the routes between masters,
//   - workerapi has the routes of storage nodes and miners,
//   - legacy has the routes of the original system, which a master may serve too,
//   - console has the files of the web console.
//
// Only these packages know gin, and no gin type leaves them. A handler decodes, calls the role, and encodes. It
// returns an error, and [Engine.Fail] turns that into application/problem+json with the table of problems in package
// wire.
package httpapi
