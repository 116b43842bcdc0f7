// Package devcluster runs a whole cluster on one machine from one description, in one process or in many. `chainstore dev` shows
// it to people, package e2e and `chainstore bench` use it to have real processes to kill and to measure.
package devcluster
