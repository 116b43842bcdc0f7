package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Integrity reads how the storage nodes stand, which blocks are lost, and the story of what was found and repaired.
func (c *Client) Integrity(ctx context.Context) (wire.Integrity, error) {
	var found wire.Integrity
	err := c.read(ctx, "/v1/cluster/integrity", exchange.MaxMedium, func(a *exchange.Answer) error {
		found = wire.Integrity{}
		return a.Decode(&found)
	})
	if err != nil {
		return wire.Integrity{}, err
	}
	return found, nil
}

// CheckStorage makes a check of a storage node due, and returns the node as it stands: the check comes when the leader
// finds the time. It needs the admin token. id is the node's id or its URL. The error wraps [wire.ErrNotFound] where
// there is no such node. The call may be repeated: it orders one check.
func (c *Client) CheckStorage(ctx context.Context, id string) (wire.NodeIntegrity, error) {
	var node wire.NodeIntegrity
	q := c.newQuery(http.MethodPost, storagePath(id)+"/check", exchange.MaxSmall)
	_, err := c.do(ctx, q, func(a *exchange.Answer) error {
		node = wire.NodeIntegrity{}
		return a.Decode(&node)
	})
	if err != nil {
		return wire.NodeIntegrity{}, err
	}
	return node, nil
}

// ConfirmLost records that a person takes a block for lost, and returns how the cluster stands then. It needs the admin
// token. The error wraps [wire.ErrNotLost] where a storage node has the block, or may have it. A block that is
// already confirmed is not an error.
func (c *Client) ConfirmLost(ctx context.Context, block uint64) (wire.Integrity, error) {
	body, err := json.Marshal(wire.LostBlock{Block: &block})
	if err != nil {
		return wire.Integrity{}, err
	}
	q := c.newQuery(http.MethodPost, "/v1/cluster/integrity/confirm-lost", exchange.MaxMedium)
	q.header["Content-Type"] = exchange.TypeJSON
	q.body = body
	var found wire.Integrity
	_, err = c.do(ctx, q, func(a *exchange.Answer) error {
		found = wire.Integrity{}
		return a.Decode(&found)
	})
	if err != nil {
		return wire.Integrity{}, err
	}
	return found, nil
}

// RemoveStorage removes a storage node from the cluster permanently. It needs the admin token. id is the node's id or
// its URL. The error wraps [wire.ErrTooFewCopies] where fewer good copies would remain than the cluster's replicas
// setting asks, which force overrules, and [wire.ErrNotFound] where there is no such node; not, though, when that may
// be because an earlier try of this call has removed it without an answer.
func (c *Client) RemoveStorage(ctx context.Context, id string, force bool) error {
	return c.remove(ctx, storagePath(id), force)
}

// storagePath is the path of a storage node, which is named by its id or its URL.
func storagePath(id string) string { return "/v1/storages/" + url.PathEscape(id) }
