package roles

import (
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/wire"
)

// workerSecrets are the secrets that a worker of a role uses.
func workerSecrets(role string) []string {
	if role == "storage" {
		return []string{wire.SecretStorage, wire.SecretRecovery}
	}
	return []string{wire.SecretMiner}
}

// openSecrets reads the secrets that this node uses.
func (c *NodeConfig) openSecrets(uses []string) (*secrets.Store, error) {
	return secrets.Open(secrets.Config{
		Files: c.SecretFiles, Cluster: c.ClusterToken, Uses: uses, Lenient: secrets.IsNodeFolder(c.Data), Log: c.Logger,
	})
}

// warnBearer returns what a transport calls before it sends the cluster token to a node, once for each address.
func warnBearer(log hclog.Logger) func(base string) {
	return func(base string) {
		log.Warn("sending the cluster token to a node of an older version, which knows no proofs", "url", base)
	}
}
