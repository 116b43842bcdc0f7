// Package worker is what storage nodes and miners have in common: the identity on disk, the list of the folder's
// starts, which detects copied and restored folders, the fence that refuses orders of a deposed leader, and the loop
// that registers with the masters.
package worker
