package roles

import "github.com/chainstore/chainstore/internal/nodeauth"

// secrets returns the secrets of the cluster, as far as this node has them.
func (c *NodeConfig) secrets() nodeauth.Secrets {
	return nodeauth.Shared(c.ClusterToken)
}
