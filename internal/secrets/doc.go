// Package secrets has the secrets of a node: their files, which may have two values while a secret is replaced, and the
// [Store] that reads them again while the node runs. docs/adr/0029 has the reasons.
package secrets
