// Package worker is what storage nodes and miners have in common: an identity on disk, the list of its own starts, by
// which copied and restored folders are found, the fence that keeps a deposed leader's orders out, and the loop that
// registers with the masters.
package worker
