package immudb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	service = "/immudb.schema.ImmuService/"
	// The account of a new server.
	account, password = "immudb", "immudb"
	// closeTime bounds the end of a session.
	closeTime = time.Second
)

// DefaultDatabase is the database of a new server.
const DefaultDatabase = "defaultdb"

// Settings are settings of a database.
type Settings struct {
	MaxConcurrency int // transactions that are made at the same time; the server refuses more
	MaxEntries     int // of a transaction
}

// Pair is a key with its value.
type Pair struct{ Key, Value []byte }

// Conn is a connection with a session of its own. Requests may run at the same time.
type Conn struct {
	conn    *grpc.ClientConn
	session string
}

// Dial connects to the server at host:port and opens a session of a database. The connection is not encrypted.
func Dial(ctx context.Context, addr, database string) (*Conn, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{})))
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn}
	request := message(nil).bytes(sessionUser, []byte(account)).bytes(sessionPassword, []byte(password)).
		bytes(sessionDatabase, []byte(database))
	answer, err := c.call(ctx, "OpenSession", request)
	if err == nil {
		err = answer.each(func(field int, _ uint64, bytes message) error {
			if field == sessionID {
				c.session = string(bytes)
			}
			return nil
		})
	}
	if err == nil && c.session == "" {
		err = errors.New("the answer has no session")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a session at %s: %w", addr, err), conn.Close())
	}
	return c, nil
}

// CreateDatabase creates a database.
func (c *Conn) CreateDatabase(ctx context.Context, name string, s Settings) error {
	number := func(n int) message { return message(nil).number(numberValue, uint64(n)) }
	settings := message(nil).bytes(settingEntries, number(s.MaxEntries)).
		bytes(settingConcurrency, number(s.MaxConcurrency))
	_, err := c.call(ctx, "CreateDatabaseV2", message(nil).bytes(databaseName, []byte(name)).
		bytes(databaseSettings, settings))
	return err
}

// Set stores the pairs in one transaction. It returns when the server has the transaction on disk and in its index.
// The header is what the server says.
func (c *Conn) Set(ctx context.Context, pairs ...Pair) (*Header, error) {
	var request, pair message
	for _, p := range pairs {
		pair = pair[:0].bytes(pairKey, p.Key).bytes(pairValue, p.Value)
		request = request.bytes(setPair, pair)
	}
	answer, err := c.call(ctx, "Set", request)
	if err != nil {
		return nil, err
	}
	h := &Header{}
	if err := h.decode(answer); err != nil {
		return nil, err
	}
	if h.ID == 0 || h.version != headerVersionKnown || h.entries != uint64(len(pairs)) {
		return nil, fmt.Errorf("set %d pairs: the answer is transaction %d with %d entries, version %d", len(pairs),
			h.ID, h.entries, h.version)
	}
	return h, nil
}

// Get returns the value of a key that was set before the trusted transaction, and verifies its proof. Without a valid
// proof the error wraps ErrProof.
func (c *Conn) Get(ctx context.Context, key []byte, trusted *Header) ([]byte, error) {
	request := message(nil).bytes(getKey, message(nil).bytes(requestKey, key)).number(getSince, trusted.ID)
	got, err := c.call(ctx, "VerifiableGet", request)
	if err != nil {
		return nil, err
	}
	var a answer
	if err := a.decode(got); err != nil {
		return nil, err
	}
	if err := a.verify(key, trusted); err != nil {
		return nil, err
	}
	return a.value, nil
}

// Close ends the session and the connection.
func (c *Conn) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_, _ = c.call(ctx, "CloseSession", nil) // a server that has ended has no sessions
	return c.conn.Close()
}

// call makes one request.
func (c *Conn) call(ctx context.Context, method string, request message) (answer message, err error) {
	if c.session != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "sessionid", c.session)
	}
	err = c.conn.Invoke(ctx, service+method, request, &answer)
	return answer, err
}

// codec passes encoded messages on.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("%T is not a message", v)
	}
	return m, nil
}

func (codec) Unmarshal(b []byte, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("%T is not a message", v)
	}
	*m = append(message(nil), b...)
	return nil
}
