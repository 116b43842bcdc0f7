package fakecluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Record is a record and its place.
type Record struct {
	chain.Record
	Block, Index uint64
	Offset       uint32
}

// pageRecords is the number of records per page. It is small, so that lists have several pages.
const pageRecords = 2

// Append appends a record to a project, and cuts a block when it is full. The caller holds the lock, if any server
// runs.
func (c *Cluster) Append(p *Project, key, typ string, payload []byte) *Record {
	first := c.Log.Size()
	r := Record{
		Record: chain.Record{Project: p.ID, Time: c.now(), Key: key, Type: typ, Payload: payload},
		Block:  uint64(len(c.Log.Blocks)), Offset: uint32(len(c.Records) - c.open),
	}
	if n := len(c.Records); n > 0 {
		r.Time = max(r.Time, c.Records[n-1].Time)
	}
	r.Index = first + uint64(r.Offset)
	salt := sha256.Sum256(fmt.Append(nil, r.Index))
	copy(r.Salt[:], salt[:])
	c.Records = append(c.Records, r)
	p.Records++
	if r.Offset == BlockRecords-1 {
		c.Cut()
	}
	return &c.Records[len(c.Records)-1]
}

// Cut mines a block of the records that are not in a block yet. The caller holds the lock, if any server runs.
func (c *Cluster) Cut() {
	if c.open == len(c.Records) {
		return
	}
	var records []chain.Record
	for i := range c.Records[c.open:] {
		records = append(records, c.Records[c.open+i].Record)
	}
	c.Log.Mine(records[len(records)-1].Time, records...)
	c.open = len(c.Records)
	for i := range c.Integrity.Nodes {
		if n := &c.Integrity.Nodes[i]; n.State == "valid" {
			n.Height = uint64(len(c.Log.Blocks))
		}
	}
}

// Position returns the position of a record.
func (c *Cluster) Position(r *Record) wire.Position {
	state := wire.StateStored
	if r.Block >= uint64(len(c.Log.Blocks)) {
		state = wire.StateCommitted
	}
	leaf := r.Leaf()
	return wire.Position{
		Block: r.Block, Offset: r.Offset, Index: r.Index, Time: r.Time, Leaf: leaf.Hash(), State: state,
	}
}

// Envelope returns a record in the form of the API.
func (c *Cluster) Envelope(r *Record) wire.Record {
	e := wire.Record{
		Position: c.Position(r), Project: c.projectOf(r).Name, ProjectID: r.Project, Key: r.Key, Type: r.Type,
		Size: uint32(len(r.Payload)), Salt: r.Salt[:], Commit: r.Commit(), Payload: r.Payload,
	}
	if c.Liar {
		e.Payload = append([]byte("not "), e.Payload...)
		e.Size = uint32(len(e.Payload))
	}
	return e
}

func (c *Cluster) projectOf(r *Record) *Project { return c.Project(fmt.Sprint(r.Project)) }

func (c *Cluster) mayRead(by caller, r *Record) bool {
	owner := c.projectOf(r)
	return owner.Public || by.project == owner && slices.Contains(by.rights, wire.RightRead)
}

func (c *Cluster) recordRoutes() routes {
	envelope := func(w http.ResponseWriter, _ *http.Request, r *Record) { reply(w, http.StatusOK, c.Envelope(r)) }
	return routes{
		"POST /v1/records":                                {project, c.append},
		"POST /v1/records:batch":                          {project, c.appendBatch},
		"POST /v1/records:stream":                         {project, c.appendStream},
		"POST /v1/streams":                                {project, c.openAppendStream},
		"GET /v1/streams":                                 {project, c.appendStreams},
		"DELETE /v1/streams/{id}":                         {project, c.removeAppendStream},
		"GET /v1/streams/{id}":                            {project, c.appendStreamState},
		"GET /v1/records":                                 {project, c.list},
		"GET /v1/records/stream":                          {project, c.stream},
		"GET /v1/records/{index}":                         {project, c.ofRecord(envelope)},
		"GET /v1/blocks/{block}/records/{offset}":         {project, c.ofRecord(envelope)},
		"GET /v1/records/{index}/proof":                   {project, c.ofRecord(c.proof)},
		"GET /v1/blocks/{block}/records/{offset}/proof":   {project, c.ofRecord(c.proof)},
		"GET /v1/records/{index}/receipt":                 {project, c.ofRecord(c.receipt)},
		"GET /v1/blocks/{block}/records/{offset}/receipt": {project, c.ofRecord(c.receipt)},
	}
}

// entry is a record to append.
type entry struct {
	key, typ string
	payload  []byte
}

// take appends entries, once per idempotency key. It returns nil if it has already responded.
func (c *Cluster) take(w http.ResponseWriter, r *http.Request, by caller, entries []entry) []wire.Position {
	return c.takeKeyed(w, r.Header.Get(wire.HeaderIdempotencyKey), by, entries)
}

func (c *Cluster) takeKeyed(w http.ResponseWriter, key string, by caller, entries []entry) []wire.Position {
	for i := range entries {
		switch n := len(entries[i].payload); {
		case n == 0:
			Problem(w, wire.ErrEmptyBody)
			return nil
		case n > c.RecordBytes:
			Problem(w, wire.ErrTooLarge)
			return nil
		}
	}
	if c.Before != nil && c.Before(w, len(entries)) {
		return nil
	}
	positions, again := c.appended[key]
	if !again || key == "" {
		positions = nil
		for i := range entries {
			e := &entries[i]
			at := c.Position(c.Append(by.project, e.key, e.typ, e.payload))
			at.State = wire.StateCommitted
			positions = append(positions, at)
		}
		c.appended[key] = positions
	}
	if c.After != nil && c.After(w) {
		return nil
	}
	return positions
}

func (c *Cluster) append(w http.ResponseWriter, r *http.Request, by caller) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 2<<20))
	if err != nil {
		c.fail("append: %v", err)
	}
	positions := c.take(w, r, by, []entry{{r.Header.Get(wire.HeaderKey), r.Header.Get("Content-Type"), body}})
	if positions == nil {
		return
	}
	answer, status := wire.Appended{Position: positions[0]}, http.StatusCreated
	switch waits := r.URL.Query().Get("wait") == wire.StateStored; {
	case waits && c.Unstored:
		status = http.StatusAccepted
	case waits:
		c.Cut()
		answer.State = wire.StateStored
		if c.covered() {
			receipt := c.Log.Receipt(answer.Block, answer.Offset, c.Log.Size())
			answer.Receipt = &receipt
		}
	}
	reply(w, status, answer)
}

func (c *Cluster) appendBatch(w http.ResponseWriter, r *http.Request, by caller) {
	body, err := io.ReadAll(r.Body)
	var entries []entry
	if err == nil {
		err = wire.ParseFrames(body, func(key, typ, payload []byte) error {
			entries = append(entries, entry{string(key), string(typ), bytes.Clone(payload)})
			return nil
		})
	}
	if err != nil {
		c.fail("batch: %v", err)
	}
	if positions := c.take(w, r, by, entries); positions != nil {
		reply(w, http.StatusCreated, wire.Positions{Records: positions})
	}
}

// ofRecord finds the record of a request.
func (c *Cluster) ofRecord(show func(http.ResponseWriter, *http.Request, *Record)) route {
	return func(w http.ResponseWriter, r *http.Request, by caller) {
		index, block, offset := r.PathValue("index"), r.PathValue("block"), r.PathValue("offset")
		i := slices.IndexFunc(c.Records, func(r Record) bool {
			return fmt.Sprint(r.Index) == index || fmt.Sprint(r.Block) == block && fmt.Sprint(r.Offset) == offset
		})
		n, _ := strconv.ParseUint(index, 10, 64)
		switch {
		case i < 0 && index != "" && n%(BlockRecords+1) == BlockRecords:
			Problem(w, wire.ErrSealIndex)
		case i < 0:
			Problem(w, wire.ErrNotFound)
		case !c.mayRead(by, &c.Records[i]):
			Problem(w, wire.ErrForbidden)
		default:
			show(w, r, &c.Records[i])
		}
	}
}

// covered reports whether a checkpoint covers the blocks. It returns false for the first Uncovered requests.
func (c *Cluster) covered() bool {
	if c.Uncovered > 0 {
		c.Uncovered--
		return false
	}
	return true
}

// proof responds with a proof, or with a C2SP tlog-proof if the request accepts text.
func (c *Cluster) proof(w http.ResponseWriter, r *http.Request, record *Record) {
	if record.Block >= uint64(len(c.Log.Blocks)) {
		Problem(w, wire.ErrNotSealed)
		return
	}
	if r.Header.Get("Accept") == "text/plain" {
		w.Header().Set("Content-Type", wire.TypeNote)
		_, _ = w.Write(c.Log.TlogProof(record.Index))
		return
	}
	proof := c.Log.Proof(record.Block, record.Offset, c.Log.Size())
	if !c.covered() {
		proof.Checkpoint = ""
	}
	reply(w, http.StatusOK, proof)
}

func (c *Cluster) receipt(w http.ResponseWriter, _ *http.Request, record *Record) {
	switch {
	case record.Block >= uint64(len(c.Log.Blocks)):
		Problem(w, wire.ErrNotSealed)
	case !c.covered():
		Problem(w, wire.ErrNotCovered)
	default:
		reply(w, http.StatusOK, c.Log.Receipt(record.Block, record.Offset, c.Log.Size()))
	}
}

// listed returns the records of a list or a stream, from a leaf index on.
func (c *Cluster) listed(r *http.Request, by caller, from uint64) (list []wire.Record) {
	q := r.URL.Query()
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(q.Get(name), 10, 64)
		if q.Get(name) != "" && err != nil {
			c.fail("%s: %v", name, err)
		}
		return n
	}
	p, until := by.project, number("until")
	if name := q.Get("project"); name != "" {
		p = c.Project(name)
	}
	for i := range c.Records {
		r := &c.Records[i]
		if r.Project == p.ID && c.mayRead(by, r) && r.Index >= max(from, number("from")) &&
			(q.Get("key") == "" || r.Key == q.Get("key")) &&
			r.Time >= number("since") && (until == 0 || r.Time < until) {
			list = append(list, c.Envelope(r))
		}
	}
	return list
}

func (c *Cluster) list(w http.ResponseWriter, r *http.Request, by caller) {
	if name := r.URL.Query().Get("project"); name != "" {
		switch p := c.Project(name); {
		case p == nil:
			Problem(w, wire.ErrNotFound)
			return
		case p != by.project && !p.Public:
			Problem(w, wire.ErrForbidden)
			return
		}
	}
	from, _ := strconv.ParseUint(r.URL.Query().Get("cursor"), 10, 64)
	page := wire.Records{Records: c.listed(r, by, from)}
	most := pageRecords
	if limit, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && limit > 0 {
		most = min(most, limit)
	}
	if len(page.Records) > most {
		page.Next = fmt.Sprint(page.Records[most].Index)
		page.Records = page.Records[:most]
	}
	if page.Records == nil {
		page.Records = []wire.Record{}
	}
	reply(w, http.StatusOK, page)
}

// stream sends the present records and closes the connection.
func (c *Cluster) stream(w http.ResponseWriter, r *http.Request, by caller) {
	var from uint64
	if last := r.Header.Get(wire.HeaderLastEventID); last != "" {
		id, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			c.fail("%s: %v", wire.HeaderLastEventID, err)
		}
		from = id + 1
	}
	if c.Streaming != nil {
		c.Streaming()
	}
	w.Header().Set("Content-Type", wire.TypeEvents)
	_, _ = fmt.Fprint(w, ": alive\n\n")
	for _, record := range c.listed(r, by, from) {
		data, _ := json.Marshal(record)
		_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", record.Index, wire.EventRecord, data)
	}
}

func (c *Cluster) blockRoutes() routes {
	return routes{
		"GET /v1/blocks":                 {anyone, c.listBlocks},
		"GET /v1/blocks/{block}":         {optional, c.block},
		"GET /v1/blocks/{block}/records": {anyone, c.blockRecords},
		"GET /v1/hashes/{hash}":          {anyone, c.findHash},
	}
}

func (c *Cluster) headers() []wire.Block {
	if c.Blocks != nil {
		return c.Blocks
	}
	var blocks []wire.Block
	for i := range c.Log.Blocks {
		blocks = append(blocks, wire.NewBlock(c.Log.Blocks[i].Header))
	}
	return blocks
}

func (c *Cluster) listBlocks(w http.ResponseWriter, r *http.Request, _ caller) {
	blocks := c.headers()
	before, err := strconv.Atoi(r.URL.Query().Get("cursor"))
	if err != nil {
		before = len(blocks)
	}
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 1 {
		c.fail("limit %q", r.URL.Query().Get("limit"))
	}
	if c.PageSize > 0 {
		limit = min(limit, c.PageSize)
	}
	page := wire.Blocks{Blocks: []wire.Block{}}
	for n := before - 1; n >= 0 && len(page.Blocks) < limit; n-- {
		page.Blocks = append(page.Blocks, blocks[n])
	}
	if rest := before - len(page.Blocks); rest > 0 {
		page.Next = strconv.Itoa(rest)
	}
	reply(w, http.StatusOK, page)
}

// block responds with a header. The newest checkpoint covers all blocks, so no token is needed.
func (c *Cluster) block(w http.ResponseWriter, r *http.Request, _ caller) {
	blocks := c.headers()
	n, err := strconv.Atoi(r.PathValue("block"))
	if err != nil || n < 0 || n >= len(blocks) {
		Problem(w, wire.ErrNotFound)
		return
	}
	reply(w, http.StatusOK, blocks[n])
}

func (c *Cluster) blockRecords(w http.ResponseWriter, r *http.Request, by caller) {
	page := wire.BlockRecords{Records: []wire.BlockRecord{}}
	for i := range c.Records {
		record := &c.Records[i]
		if fmt.Sprint(record.Block) != r.PathValue("block") {
			continue
		}
		shown := wire.BlockRecord{Block: record.Block, Offset: record.Offset, Index: record.Index, Hidden: true}
		if c.mayRead(by, record) {
			envelope := c.Envelope(record)
			shown.Record, shown.Hidden = &envelope, false
		}
		page.Records = append(page.Records, shown)
	}
	reply(w, http.StatusOK, page)
}

func (c *Cluster) findHash(w http.ResponseWriter, r *http.Request, _ caller) {
	hash := r.PathValue("hash")
	for i := range c.Log.Blocks {
		if h := &c.Log.Blocks[i].Header; h.Hash().String() == hash {
			reply(w, http.StatusOK, wire.FoundHash{Kind: wire.KindBlock, Block: h.Block})
			return
		}
	}
	for i := range c.Records {
		if at := c.Position(&c.Records[i]); at.Leaf.String() == hash {
			reply(w, http.StatusOK, wire.FoundHash{
				Kind: wire.KindRecord, Block: at.Block, Offset: &at.Offset, Index: &at.Index,
			})
			return
		}
	}
	Problem(w, wire.ErrNotFound)
}
