// Package devcluster runs a whole cluster on one machine from one description, in one process or in several.
// `chainstore dev` starts one; package e2e and the bench module stop, kill and measure its roles.
package devcluster
