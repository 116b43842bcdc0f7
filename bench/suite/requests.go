package suite

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"sort"
	"strconv"

	"github.com/chainstore/chainstore/wire"
)

const (
	payloadSize = 256
	batchSize   = 100
)

// mark begins every payload, so that a reader can recognise one.
var mark = [8]byte{'c', 's', 'b', 'e', 'n', 'c', 'h', 1}

// payload returns a client's payload: mark ‖ client u64 ‖ counter u64 ‖ random bytes. Only the counter changes from
// request to request.
func payload(client uint64) []byte {
	p := make([]byte, payloadSize)
	_, _ = rand.Read(p) // never fails
	copy(p, mark[:])
	binary.BigEndian.PutUint64(p[8:], client)
	return p
}

// counterAt is the offset of the counter in a payload.
const counterAt = 16

// isPayload checks a record that was read back.
func isPayload(body []byte) error {
	if len(body) != payloadSize || !bytes.HasPrefix(body, mark[:]) {
		return fmt.Errorf("read %d bytes that are not a payload of the load generator: %.32q", len(body), body)
	}
	return nil
}

// prepared is a request that changes only in the counters of its payloads.
type prepared struct {
	bytes    []byte
	counters []int // offsets of the counters in bytes
	count    uint64
}

func (p *prepared) next() []byte {
	for _, at := range p.counters {
		binary.BigEndian.PutUint64(p.bytes[at:], p.count)
		p.count++
	}
	return p.bytes
}

// post returns the head of a POST. typ may be "".
func post(host, path, token, typ string, length int) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n", path, host, token)
	if typ != "" {
		head += "Content-Type: " + typ + "\r\n"
	}
	return fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n", head, length)
}

// newAppend returns requests that append single records.
func newAppend(host, token string, client uint64) *prepared {
	head := post(host, "/v1/records", token, "", payloadSize)
	return &prepared{bytes: append(head, payload(client)...), counters: []int{len(head) + counterAt}}
}

// newBatch returns requests that append n records each, in the length-framed form.
func newBatch(host, token string, client uint64, n int) *prepared {
	p := &prepared{}
	var body []byte
	for range n {
		p.counters = append(p.counters, len(body)+wire.FrameOverhead+counterAt)
		body = wire.AppendFrame(body, "", "", payload(client))
	}
	head := post(host, "/v1/records:batch", token, wire.TypeFrames, len(body))
	for i := range p.counters {
		p.counters[i] += len(head)
	}
	p.bytes = append(head, body...)
	return p
}

// places are the records that can be read: all records of all blocks.
type places struct {
	blocks []uint64
	ends   []uint64 // number of records up to the end of that block
}

func (p *places) add(block uint64, count uint32) {
	if count > 0 {
		p.blocks = append(p.blocks, block)
		p.ends = append(p.ends, p.records()+uint64(count))
	}
}

func (p *places) records() uint64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

// at returns the place of record n.
func (p *places) at(n uint64) (block, offset uint64) {
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > n })
	if i > 0 {
		n -= p.ends[i-1]
	}
	return p.blocks[i], n
}

// newRead returns requests that read random records from number first to before end, each with the same probability.
func newRead(host, token string, p *places, first, end uint64) func() []byte {
	tail := fmt.Appendf(nil, " HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", host, token)
	random := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))
	var request []byte
	return func() []byte {
		block, offset := p.at(first + random.Uint64N(end-first))
		request = strconv.AppendUint(append(request[:0], "GET /v1/blocks/"...), block, 10)
		request = strconv.AppendUint(append(request, "/records/"...), offset, 10)
		request = append(request, tail...)
		return request
	}
}

// hostOf returns the host:port of an http or https URL without a path.
func hostOf(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Port() == "" {
		return "", errors.New(base + " is not of the form http://host:port or https://host:port")
	}
	return u.Host, nil
}
