package noderpc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// nodeHeader returns the header of a call between nodes.
func nodeHeader(auth []string) http.Header {
	header := make(http.Header, 8)
	if auth != nil {
		header["Authorization"] = auth
	}
	// An empty list tells net/http that it may repeat the request on another connection. It is not sent.
	header[wire.HeaderIdempotencyKey] = []string{}
	return header
}

// call sends a request. It returns an error for an answer that is a problem, and with it the answer.
func call(ctx context.Context, send exchange.Send, q *exchange.Request) (*exchange.Answer, error) {
	a, err := exchange.Do(ctx, send, q)
	if err != nil {
		return nil, err
	}
	return a, fenced(a, a.Problem())
}

// callFor is call for an answer of JSON.
func callFor[T any](ctx context.Context, send exchange.Send, q *exchange.Request) (T, error) {
	var v T
	a, err := call(ctx, send, q)
	if err == nil {
		err = a.Decode(&v)
	}
	return v, err
}

// fenced turns the refusal of an order that names the worker's highest order into a [*wire.FencedError].
func fenced(a *exchange.Answer, problem error) error {
	var f wire.Fenced
	if !errors.Is(problem, wire.ErrFenced) || json.Unmarshal(a.Body, &f) != nil || f.Epoch == nil {
		return problem
	}
	return &wire.FencedError{Highest: wire.Order{Epoch: *f.Epoch, Term: f.Term}, Err: problem}
}
