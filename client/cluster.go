package client

import (
	"context"

	"github.com/chainstore/chainstore/wire"
)

// Cluster reads the cluster's status table.
func (c *Client) Cluster(ctx context.Context) (wire.Cluster, error) {
	var table wire.Cluster
	err := c.read(ctx, "/v1/cluster", maxMedium, func(a *answer) error {
		table = wire.Cluster{}
		return a.decode(&table)
	})
	if err != nil {
		return wire.Cluster{}, err
	}
	return table, nil
}
