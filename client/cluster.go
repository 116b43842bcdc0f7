package client

import (
	"context"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Cluster reads the cluster's status table.
func (c *Client) Cluster(ctx context.Context) (wire.Cluster, error) {
	var table wire.Cluster
	err := c.read(ctx, "/v1/cluster", exchange.MaxMedium, func(a *exchange.Answer) error {
		table = wire.Cluster{}
		return a.Decode(&table)
	})
	if err != nil {
		return wire.Cluster{}, err
	}
	return table, nil
}
