package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// query is a request to any of the masters.
type query struct {
	method string
	path   string
	header http.Header
	body   []byte
	limit  int // of the answer, in bytes
	// patience is the time that a master was asked to wait before it answers.
	patience time.Duration
	// once prevents another try after one that may have been carried out.
	once bool
	// maybeDone is set by do if a failed try may have been carried out.
	maybeDone bool
	// answered is the master that sent the good answer, set by do.
	answered string
}

// newQuery returns a query with the client's token. The caller may add header fields.
func (c *Client) newQuery(method, path string, limit int) *query {
	header := make(http.Header, 8)
	if c.auth != nil {
		header["Authorization"] = c.auth
	}
	return &query{method: method, path: path, header: header, limit: limit}
}

// ask sends a query and decodes its JSON answer, which check may refuse. Fields that an answer does not have are zero,
// so check must refuse an answer without a field that every master sends. A refused answer counts as a failure of the
// master that sent it.
func ask[T any](ctx context.Context, c *Client, q *query, check func(*T) error) (T, error) {
	var result, none T
	err := c.do(ctx, q, func(a *exchange.Answer) error {
		result = none
		if err := a.Expect(exchange.TypeJSON[0]); err != nil {
			return err
		}
		if err := a.Decode(&result); err != nil {
			return err
		}
		if err := check(&result); err != nil {
			return fmt.Errorf("%s: %w", a.Base, err)
		}
		return nil
	})
	if err != nil {
		return none, err
	}
	return result, nil
}

// read asks for JSON.
func read[T any](ctx context.Context, c *Client, path string, limit int, check func(*T) error) (T, error) {
	q := c.newQuery(http.MethodGet, path, limit)
	q.header["Accept"] = exchange.TypeJSON
	return ask(ctx, c, q, check)
}

// command sends a request that changes something, with a body of JSON unless that is nil.
func command[T any](ctx context.Context, c *Client, method, path string, body any, once bool,
	check func(*T) error) (T, error) {
	q := c.newQuery(method, path, exchange.MaxMedium)
	q.once = once
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			var none T
			return none, err
		}
		q.header["Content-Type"] = exchange.TypeJSON
		q.body = data
	}
	return ask(ctx, c, q, check)
}

// text reads an answer that is a text, which check may refuse.
func (c *Client) text(ctx context.Context, path string, check func([]byte) error) (text []byte, err error) {
	q := c.newQuery(http.MethodGet, path, exchange.MaxSmall)
	q.header["Accept"] = []string{"text/plain"}
	err = c.do(ctx, q, func(a *exchange.Answer) error {
		if err := a.Expect("text/plain"); err != nil {
			return err
		}
		if err := check(a.Body); err != nil {
			return fmt.Errorf("%s: %w", a.Base, err)
		}
		text = a.Body
		return nil
	})
	return text, err
}

// remove deletes what a path names. The answer that it does not exist is not an error if an earlier try may have
// deleted it.
func (c *Client) remove(ctx context.Context, path string, force bool) error {
	if force {
		path += "?force=true"
	}
	q := c.newQuery(http.MethodDelete, path, exchange.MaxSmall)
	err := c.do(ctx, q, (*exchange.Answer).ExpectDone)
	if q.maybeDone && (errors.Is(err, wire.ErrNotFound) || errors.Is(err, wire.ErrUnknownStream)) {
		return nil
	}
	return err
}
