// Package histogram has the histograms of the nodes. The packages of a node measure with them, and its HTTP server
// collects them for /metrics. They are those of the Prometheus client library, without a registry: an observation is a
// few atomic operations and allocates nothing.
package histogram
