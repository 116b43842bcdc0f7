package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// StreamQuery selects the records of a stream.
type StreamQuery struct {
	Project string // name or id, "" for the token's own
	Key     string // "" for all
	From    uint64 // leaf index
	Now     bool   // begin with the next record that is appended, instead of From
}

// streamSilence is the time after which a silent master counts as dead: masters send something every 10 seconds.
const streamSilence = 25 * time.Second

// Stream returns the existing records in the order of the chain, and then new ones as they are appended, each once and
// without gaps. When a master dies or has no leader, the stream continues with the next one. It lasts until the
// caller's loop ends, or ends with an error: that of the context, a final answer such as [wire.ErrUnauthorized], or the
// last failure after no master has served it for [Config].RetryFor. Each record was checked as by [Client.Get]. One
// record is held at a time. A [Config].HTTP must have no timeout.
func (c *Client) Stream(ctx context.Context, q StreamQuery) iter.Seq2[wire.Record, error] {
	return func(yield func(wire.Record, error) bool) {
		s := stream{
			client: c, filter: ListQuery{Project: q.Project, Key: q.Key}, next: q.From, known: !q.Now, yield: yield,
			served: time.Now(),
		}
		if err := s.run(ctx); err != nil {
			yield(wire.Record{}, err)
		}
	}
}

// stream is one stream on its way through the masters.
type stream struct {
	client *Client
	filter ListQuery
	next   uint64 // the leaf index that may come next
	known  bool   // next is known: with StreamQuery.Now the first master determines it
	yield  func(wire.Record, error) bool
	served time.Time // when a master served it last
}

// errLoopEnded: the caller ended its loop over the stream.
var errLoopEnded = errors.New("the loop has ended")

func (s *stream) run(ctx context.Context) error {
	at := s.client.good.Load()
	backoff, tried := minBackoff, 0
	for {
		before := s.served
		err := s.once(ctx, s.client.masters[at])
		switch {
		case errors.Is(err, errLoopEnded):
			return nil
		case ctx.Err() != nil:
			return ended(ctx, err)
		case judge(err) == final:
			return err
		}
		if s.served != before {
			backoff, tried = minBackoff, 0
		}
		at = (at + 1) % uint32(len(s.client.masters))
		if tried++; tried < len(s.client.masters) {
			continue
		}
		if end := s.client.pause(ctx, backoff, s.served, err); end != nil {
			return end
		}
		backoff, tried = min(2*backoff, maxBackoff), 0
	}
}

// once follows the stream of one master until it breaks off.
func (s *stream) once(ctx context.Context, base string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(streamSilence, func() { cancel(fmt.Errorf("nothing came for %v", streamSilence)) })
	defer silence.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/records/stream?"+s.values().Encode(), nil)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, base, err)
	}
	if s.client.auth != nil {
		r.Header["Authorization"] = s.client.auth
	}
	r.Header.Set("Accept", wire.TypeEvents)
	if s.known && s.next > 0 {
		r.Header.Set(wire.HeaderLastEventID, strconv.FormatUint(s.next-1, 10))
	}
	response, err := s.client.send(r)
	if err != nil {
		return exchange.NoAnswer(base, errors.Join(err, context.Cause(ctx)))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		a, err := exchange.Read(base, response, exchange.MaxSmall)
		if err != nil {
			return err
		}
		return cmp.Or(a.Problem(), fmt.Errorf("%s: %w: status %d", base, ErrAnswer, a.Status))
	}
	a := &exchange.Answer{Base: base, Status: response.StatusCode, Header: response.Header}
	if err := a.Expect(wire.TypeEvents); err != nil {
		return err
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), exchange.MaxRecords)
	for {
		e, err := readEvent(lines)
		if err != nil {
			return exchange.NoAnswer(base, errors.Join(err, context.Cause(ctx)))
		}
		silence.Reset(streamSilence)
		if err := s.take(&e, base); err != nil {
			return err
		}
		s.served = time.Now()
	}
}

// values returns the query parameters. A stream that has begun continues at its place.
func (s *stream) values() url.Values {
	v := s.filter.values()
	if s.known {
		v.Set("from", strconv.FormatUint(s.next, 10))
	}
	return v
}

// take passes a record to the caller, or moves the place where the stream is resumed.
func (s *stream) take(e *event, base string) error {
	next := uint64(0)
	if e.id != "" {
		id, err := strconv.ParseUint(e.id, 10, 63)
		if err != nil {
			return fmt.Errorf("%s: %w: event id %q", base, ErrAnswer, e.id)
		}
		next = id + 1
	}
	if e.name != wire.EventRecord {
		if !s.known || next > s.next {
			s.next, s.known = next, true
		}
		return nil
	}
	var r wire.Record
	if err := json.Unmarshal(e.data, &r); err != nil {
		return fmt.Errorf("%s: %w: %w", base, ErrAnswer, err)
	}
	if err := s.filter.check(&r, s.next); err != nil {
		return fmt.Errorf("%s: %w", base, err)
	}
	s.next, s.known = r.Index+1, true
	if !s.yield(r, nil) {
		return errLoopEnded
	}
	return nil
}

// event is one server-sent event of the HTML standard.
type event struct {
	id, name string
	data     []byte
}

// readEvent reads up to the next empty line.
func readEvent(lines *bufio.Scanner) (e event, err error) {
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			return e, nil
		}
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			e.id = string(value)
		case "event":
			e.name = string(value)
		case "data":
			e.data = bytes.Clone(value)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return e, fmt.Errorf("%w: an event of more than %d bytes", ErrAnswer, exchange.MaxRecords)
	}
	return e, cmp.Or(lines.Err(), errors.New("the stream ended"))
}
