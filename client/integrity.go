package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Integrity reads the state of the storage nodes, the lost blocks, and the integrity log: what was found and repaired.
func (c *Client) Integrity(ctx context.Context) (wire.Integrity, error) {
	return read(ctx, c, "/v1/cluster/integrity", exchange.MaxMedium, checkIntegrity)
}

// CheckStorage makes a check of a storage node due, and returns the node's state now: the leader starts the check when
// it can. It needs the admin token. id is the node's id or its URL. The error wraps [wire.ErrNotFound] if there is no
// such node. The call may be repeated: it orders one check.
func (c *Client) CheckStorage(ctx context.Context, id string) (wire.NodeIntegrity, error) {
	return command[wire.NodeIntegrity](ctx, c, http.MethodPost, storagePath(id)+"/check", nil, false,
		func(n *wire.NodeIntegrity) error {
			return needs(n.ID != "" && n.State != "", "id and state")
		})
}

// ConfirmLost records that a person confirms a block as lost, and returns the integrity afterwards. It needs the admin
// token. The error wraps [wire.ErrNotLost] if a storage node has the block, or may have it. A block that is already
// confirmed is not an error.
func (c *Client) ConfirmLost(ctx context.Context, block uint64) (wire.Integrity, error) {
	return command[wire.Integrity](ctx, c, http.MethodPost, "/v1/cluster/integrity/confirm-lost",
		wire.LostBlock{Block: &block}, false, checkIntegrity)
}

// RemoveStorage removes a storage node from the cluster permanently. It needs the admin token. id is the node's id or
// its URL. The error wraps [wire.ErrTooFewCopies] if fewer good copies would remain than the cluster's replicas setting
// requires, unless force is set. It wraps [wire.ErrNotFound] if there is no such node, and no earlier try of this call
// may have removed it.
func (c *Client) RemoveStorage(ctx context.Context, id string, force bool) error {
	return c.remove(ctx, storagePath(id), force)
}

// RemoveMiner removes a miner from the cluster permanently. It needs the admin token. id is the miner's id or its URL.
// The error wraps [wire.ErrNotFound] if there is no such miner, and no earlier try of this call may have removed it.
func (c *Client) RemoveMiner(ctx context.Context, id string) error {
	return c.remove(ctx, "/v1/miners/"+url.PathEscape(id), false)
}

// storagePath is the path of a storage node, which is named by its id or its URL.
func storagePath(id string) string { return "/v1/storages/" + url.PathEscape(id) }
