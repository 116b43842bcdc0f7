package noderpc

import (
	"context"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

const (
	// maxCosignatures bounds the answer of a witness, in bytes. A line of ML-DSA-44 has 3.3 KiB.
	maxCosignatures = 64 << 10
	// maxReason bounds the text that is shown from a witness's answer, in characters.
	maxReason = 200
	// keptWitnesses is the number of idle connections kept to each witness, which gets one submission at a time.
	keptWitnesses = 1
	// witnessDialTimeout bounds the connection setup.
	witnessDialTimeout = 3 * time.Second
)

// Witnesses are the calls to witnesses of transparency logs (C2SP tlog-witness). Each goes to one URL, once, and lasts
// as long as its context. It sends no token, follows no redirect, and bounds the answer. It may be used by many
// goroutines at once.
type Witnesses struct {
	transport *http.Transport
}

// NewWitnesses returns the calls. They use the proxy of the environment, since witnesses are outside the cluster.
func NewWitnesses() *Witnesses {
	c := &Witnesses{transport: exchange.NewTransport(witnessDialTimeout, keptWitnesses)}
	c.transport.Proxy = http.ProxyFromEnvironment
	return c
}

// AddCheckpoint submits a signed checkpoint to the witness whose submission prefix is url, with the consistency proof
// from the size old. It returns the signature lines of the answer and does not verify them. The error is a
// [*wire.WitnessConflict] if the witness has another size than old, and a [*wire.WitnessRefusal] for every other status
// but 200. It wraps [wire.ErrNoAnswer], or [exchange.ErrAnswer] for an answer that is too long or not one of a witness.
func (c *Witnesses) AddCheckpoint(
	ctx context.Context, url string, old uint64, proof []chain.Hash, checkpoint []byte,
) ([]byte, error) {
	a, err := exchange.Do(ctx, exchange.Paced(c.transport.RoundTrip), &exchange.Request{
		Method: http.MethodPost, Base: url, Path: "/add-checkpoint",
		Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "User-Agent": {"chainstore"}},
		Body:   submission(old, proof, checkpoint), Limit: maxCosignatures,
	})
	if err != nil {
		return nil, err
	}
	switch a.Status {
	case http.StatusOK:
		return a.Body, nil
	case http.StatusConflict:
		return nil, conflict(a)
	}
	return nil, &wire.WitnessRefusal{
		Status: a.Status, Reason: reason(a.Body),
		RetryAfter: exchange.RetryAfter(a.Header.Get("Retry-After"), time.Now()),
	}
}

// submission returns the body of add-checkpoint.
func submission(old uint64, proof []chain.Hash, checkpoint []byte) []byte {
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		body = base64.StdEncoding.AppendEncode(body, h[:])
		body = append(body, '\n')
	}
	return append(append(body, '\n'), checkpoint...)
}

// conflict reads the answer 409. Its body must be a size and nothing else, as that of a proxy is not.
func conflict(a *exchange.Answer) error {
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	text, ended := strings.CutSuffix(string(a.Body), "\n")
	size, parseErr := strconv.ParseUint(text, 10, 63)
	if err != nil || media != wire.TypeWitnessSize || !ended || parseErr != nil ||
		strconv.FormatUint(size, 10) != text {
		return fmt.Errorf("%s: %w: a conflict (status 409) without a size: %q",
			a.Base, exchange.ErrAnswer, reason(a.Body))
	}
	return &wire.WitnessConflict{Size: size}
}

// reason returns the start of an answer's text without characters that cannot be printed.
func reason(body []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 4*maxReason)]), "")), " ")
	shown := make([]rune, 0, maxReason)
	for _, r := range text {
		if len(shown) == maxReason {
			return string(shown) + "…"
		}
		if unicode.IsPrint(r) {
			shown = append(shown, r)
		}
	}
	return string(shown)
}
