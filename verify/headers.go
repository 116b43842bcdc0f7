package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// maxHeader bounds the answer with one header, in bytes.
const maxHeader = 4096

// takeHeaders takes the rest of a bundle that has lost leaves: their hashes, data, which are those of the tile, and the
// headers of their blocks. A header stands in for its seal if it has the seal's hash. So everything is checked except
// what is in the leaves, and the order of their times. It returns false before the end of the bundle if the log does
// not give a header: one of an older version gives none without a token, and a header may be lost itself.
func (a *audit) takeHeaders(ctx context.Context, b *bundle, data []byte) (taken bool, err error) {
	first := b.number * tileWidth
	hash := func(leaf uint64) chain.Hash { return chain.Hash(data[(leaf-first)*chain.HashSize:][:chain.HashSize]) }
	for end := first + b.width; a.at < end; {
		h, err := a.header(ctx)
		if h == nil {
			return false, err
		}
		seal := h.Seal()
		for a.at < min(seal, end) {
			a.hashed = true
			if a.o.Token != "" {
				a.payloads.addHash(hash(a.at))
			}
			a.verifier.TakeHashes(hash(a.at))
			a.at++
			if err := a.meet(a.verifier.Open()); err != nil {
				return false, err
			}
		}
		if seal >= end {
			break // if the header is wrong, it does not fit the next seal or header
		}
		if seal < a.at || h.SealHash() != hash(seal) {
			return false, a.fail(CodeHeader, "leaf %d is not the header that the log gives for block %d", seal, h.Block)
		}
		a.at++
		if err := a.seal(h); err != nil {
			return false, err
		}
	}
	return true, nil
}

// header fetches the header of the block after the verifier's head. It is nil if the log refuses it. A log that cannot
// answer now is an error: the next run does not look at these blocks again.
func (a *audit) header(ctx context.Context) (*chain.Header, error) {
	number := a.verifier.Head().Height
	data, err := a.f.get(ctx, fmt.Sprintf("v1/blocks/%d", number), maxHeader)
	if answer, ok := errors.AsType[*statusError](err); ok && answer.status < http.StatusInternalServerError &&
		answer.status != http.StatusTooManyRequests {
		return nil, nil
	}
	var b wire.Block
	if err == nil {
		if err = json.Unmarshal(data, &b); err != nil {
			err = fmt.Errorf("%w: %w", exchange.ErrAnswer, err)
		}
	}
	if errors.Is(err, exchange.ErrAnswer) {
		return nil, a.fail(CodeHeader, "the header of block %d: %v", number, err)
	} else if err != nil {
		return nil, err
	}
	h := b.Header()
	if err := a.verifier.Follows(&h); err != nil {
		return nil, a.fail(codeOf(err), "the header that the log gives: %v", err)
	}
	return &h, nil
}

// remarkPartly adds which blocks were checked by their headers and hashes only. With a token the records that it may
// read were checked too.
func (r *LogReport) remarkPartly(blocks []chain.Range, token bool) {
	if len(blocks) == 0 {
		return
	}
	var list []string
	for _, b := range blocks {
		list = append(list, fmt.Sprintf("%d to %d", b.From, b.To-1))
	}
	checked, rest := "Their headers and the hashes of their leaves", "The leaves themselves"
	if token {
		checked = "Their headers, the hashes of their leaves and the records that the log shows"
		rest = "The other leaves"
	}
	r.Remarks = append(r.Remarks, fmt.Sprintf("blocks %s were checked only in part: a leaf of them is lost, or one in "+
		"the same bundle of %d. %s were checked. %s, and the order of the times within these blocks, were not",
		strings.Join(list, ", "), tileWidth, checked, rest))
}
