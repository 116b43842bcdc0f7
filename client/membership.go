package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// RemoveMaster removes a master from the group permanently. It needs the admin token. id is the master's id or its URL.
// The error wraps [wire.ErrTooFewMasters] where the masters that remain could not elect a leader, which force
// overrules, and [wire.ErrNotFound] where there is no such master; not, though, when that may be because an earlier try
// of this call has removed it without an answer.
func (c *Client) RemoveMaster(ctx context.Context, id string, force bool) error {
	return c.remove(ctx, "/v1/masters/"+url.PathEscape(id), force)
}

// remove takes what a path names out of the cluster. That it is not there is good where an earlier try may have removed
// it.
func (c *Client) remove(ctx context.Context, path string, force bool) error {
	if force {
		path += "?force=true"
	}
	maybe, err := c.do(ctx, c.newQuery(http.MethodDelete, path, exchange.MaxSmall),
		func(*exchange.Answer) error { return nil })
	if maybe && errors.Is(err, wire.ErrNotFound) {
		return nil
	}
	return err
}

// TransferLeadership has another master lead: the one of an id or URL, or whichever has most of the log where to is "".
// It returns the id of the master that leads then. It needs the admin token. The error wraps [wire.ErrNotVoter] where
// that master cannot lead.
func (c *Client) TransferLeadership(ctx context.Context, to string) (string, error) {
	body, err := json.Marshal(wire.Transfer{To: to})
	if err != nil {
		return "", err
	}
	q := c.newQuery(http.MethodPost, "/v1/leader/transfer", exchange.MaxSmall)
	q.header["Content-Type"] = exchange.TypeJSON
	q.body, q.once = body, true
	var done wire.Transferred
	if _, err := c.do(ctx, q, func(a *exchange.Answer) error { return a.Decode(&done) }); err != nil {
		return "", err
	}
	return done.Leader, nil
}
