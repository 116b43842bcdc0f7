package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Log reads the log's name and its keys. It needs no token.
func (c *Client) Log(ctx context.Context) (wire.Log, error) {
	return read(ctx, c, "/v1/log", exchange.MaxMedium, func(l *wire.Log) error {
		return needs(l.Keys != nil, "keys")
	})
}

// Checkpoint reads the newest checkpoint: a signed note (C2SP tlog-checkpoint), whose signature is not verified. It
// needs no token unless the log is private.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.text(ctx, "/checkpoint", checkNote)
}

// AddLogKey makes a key that signs checkpoints beside the others, and returns its public part. It needs the admin
// token. The client does not try again after a try that may have been carried out. [Client.Log] shows the keys. The
// error wraps [wire.ErrTooMany] where no more fit.
func (c *Client) AddLogKey(ctx context.Context) (wire.LogKey, error) {
	return command[wire.LogKey](ctx, c, http.MethodPost, "/v1/log/keys", nil, true, func(k *wire.LogKey) error {
		return needs(k.VerifierKey != "", "vkey")
	})
}

// CloseLog closes the log under its name and keys, and continues it under another name with a new key, whose public
// part it returns. It needs the admin token. The client does not try again after a try that may have been carried out.
// [Client.Log] shows the closed logs. The error wraps [wire.ErrNameTaken] if the log has had the name.
func (c *Client) CloseLog(ctx context.Context, closing wire.CloseLog) (wire.LogKey, error) {
	return command(ctx, c, http.MethodPost, "/v1/log/closings", closing, true, func(k *wire.LogKey) error {
		return needs(k.VerifierKey != "", "vkey")
	})
}

// RetireLogKey ends a key of the log, named by its id. It needs the admin token. The error wraps [wire.ErrNotFound]
// where there is none, [wire.ErrLastKey] where nothing else signs.
func (c *Client) RetireLogKey(ctx context.Context, id string) error {
	q := c.newQuery(http.MethodDelete, "/v1/log/keys/"+url.PathEscape(id), exchange.MaxSmall)
	return c.do(ctx, q, (*exchange.Answer).ExpectDone)
}
