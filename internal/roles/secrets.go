package roles

import (
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/nodeauth"
)

// secrets returns the secrets of the cluster, as far as this node has them.
func (c *NodeConfig) secrets() nodeauth.Secrets {
	return nodeauth.Shared(c.ClusterToken)
}

// warnBearer returns what a transport calls before it sends the cluster token to a node, once for each address.
func warnBearer(log hclog.Logger) func(base string) {
	return func(base string) {
		log.Warn("sending the cluster token to a node of an older version, which knows no proofs", "url", base)
	}
}
