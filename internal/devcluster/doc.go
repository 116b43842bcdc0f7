// Package devcluster runs a whole cluster on one machine from one description, in one process or in many. It is
// what `chainstore dev` starts, and what package e2e and the bench module kill and measure.
package devcluster
