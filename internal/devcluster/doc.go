// Package devcluster runs a whole cluster on one machine from one description, in one process or in several.
// `chainstore dev` uses it for people; the end-to-end tests and the benchmarks use it to run, stop and kill processes.
package devcluster
