// Command issuer runs an OpenID Connect issuer on the loopback address for the end-to-end tests: the provider of
// github.com/zitadel/oidc with the users, clients and login page of its example. It is a module of its own, so that its
// dependencies are not in the module of ChainStore.
//
// Its users are ada, grace and nobody, with the password "secret". It prints its URL when it serves, and ends when its
// standard input does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// client is the id of the public client of the console.
const client = "console"

// groups are the values of the claim groups, by user.
var groups = map[string][]string{"ada": {"admins", "lab"}, "grace": {"lab"}}

// users is the file of users of the example.
const users = `{
	"ada":    {"ID": "ada", "Username": "ada", "Password": "secret", "FirstName": "Ada", "LastName": "L"},
	"grace":  {"ID": "grace", "Username": "grace", "Password": "secret", "FirstName": "Grace", "LastName": "H"},
	"nobody": {"ID": "nobody", "Username": "nobody", "Password": "secret", "FirstName": "No", "LastName": "B"}
}`

// store adds the claim groups, and puts the claims of the user into the ID token, as most issuers do.
type store struct {
	*storage.Storage
	lifetime time.Duration
}

// SetUserinfoFromRequest implements op.CanSetUserinfoFromRequest: the claims of an ID token.
func (s store) SetUserinfoFromRequest(
	ctx context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string,
) error {
	err := s.Storage.SetUserinfoFromRequest(ctx, info, request, scopes)
	info.AppendClaims("groups", groups[request.GetSubject()])
	return err
}

// GetClientByClientID implements op.Storage.
func (s store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	return public{c, s.lifetime}, err
}

// public is a client whose ID tokens have the claims of the user.
type public struct {
	op.Client
	lifetime time.Duration
}

// IDTokenUserinfoClaimsAssertion implements op.Client.
func (public) IDTokenUserinfoClaimsAssertion() bool { return true }

// IDTokenLifetime implements op.Client.
func (p public) IDTokenLifetime() time.Duration { return p.lifetime }

// DevMode implements op.Client: it allows http.
func (public) DevMode() bool { return true }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	address := flag.String("address", "127.0.0.1:0", "address to serve on")
	redirects := flag.String("redirects", "", "URLs to which the issuer sends browsers back, with commas between them")
	lifetime := flag.Duration("lifetime", time.Hour, "of ID tokens")
	flag.Parse()
	dir, err := os.MkdirTemp("", "chainstore-e2e-issuer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "users.json")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		return err
	}
	known, err := storage.StoreFromFile(file)
	if err != nil {
		return err
	}
	storage.RegisterClients(storage.NativeClient(client, strings.Split(*redirects, ",")...))
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	quiet := slog.New(slog.DiscardHandler)
	handler := exampleop.SetupServer(url, store{storage.NewStorage(known), *lifetime}, quiet, false,
		op.WithAllowInsecure(), op.WithLogger(quiet))
	fmt.Println(url)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
