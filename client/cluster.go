package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Cluster reads the cluster's status table.
func (c *Client) Cluster(ctx context.Context) (wire.Cluster, error) {
	return read[wire.Cluster](ctx, c, "/v1/cluster", exchange.MaxMedium, nil)
}

// RemoveMaster removes a master from the group permanently. It needs the admin token. id is the master's id or its URL.
// The error wraps [wire.ErrTooFewMasters] if the remaining masters could not elect a leader, unless force is set. It
// wraps [wire.ErrNotFound] if there is no such master, and no earlier try of this call may have removed it.
func (c *Client) RemoveMaster(ctx context.Context, id string, force bool) error {
	return c.remove(ctx, "/v1/masters/"+url.PathEscape(id), force)
}

// SetTime moves the time of the group forward, unix milliseconds. It needs the admin token. The error wraps
// [wire.ErrBadRequest] if the time is not later than that of the group, or if the masters' clocks agree.
func (c *Client) SetTime(ctx context.Context, to uint64) (wire.TimeSet, error) {
	return command[wire.TimeSet](ctx, c, http.MethodPost, "/v1/time", wire.SetTime{Time: to}, true)
}

// ChangeSettings changes settings of the group and returns all of them. It needs the admin token. The error wraps
// [wire.ErrBadRequest] if a setting is outside its limits.
func (c *Client) ChangeSettings(ctx context.Context, change wire.SettingsChange) (wire.Settings, error) {
	return command[wire.Settings](ctx, c, http.MethodPatch, "/v1/settings", change, true)
}

// TransferLeadership makes another master the leader: the one with an id or URL, or with to "" the one that has most of
// the log. It returns the id of the new leader. It needs the admin token. The error wraps [wire.ErrNotVoter] if that
// master cannot lead.
func (c *Client) TransferLeadership(ctx context.Context, to string) (string, error) {
	done, err := command[wire.Transferred](ctx, c, http.MethodPost, "/v1/leader/transfer", wire.Transfer{To: to}, true)
	return done.Leader, err
}
