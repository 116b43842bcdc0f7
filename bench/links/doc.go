// Package links measures ways to carry calls between two nodes: requests of HTTP/1.1 on a pool of connections, as the
// nodes do it, and candidates that carry many calls over one connection whose bytes are authenticated. It has tests and
// benchmarks only. docs/adr/0021-calls-between-nodes-stay-on-http.md has figures and the decision.
package links
