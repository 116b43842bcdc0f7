package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
)

// The environment that stands in for flags.
const (
	envMasters    = "CHAINSTORE_MASTERS"
	envToken      = "CHAINSTORE_TOKEN"
	envAdminToken = "CHAINSTORE_ADMIN_TOKEN"
)

// defaultClusterFile is the cluster file that `chainstore dev` leaves in the folder it was started in.
func defaultClusterFile() string { return devcluster.ClusterFilePath("chainstore-data") }

// role is whose token a command shows.
type role int

const (
	asProject role = iota // a project's: to append and to read
	asAny                 // a project's, or the admin token: to look
	asAdmin
	asFounder // the admin token where one is given: where registration is open nobody needs one
	asAnyone  // whoever it is: a token is shown where one is given, and needed only by a private log
)

// admin reports whether the role's token is the admin token.
func (r role) admin() bool { return r == asAdmin || r == asFounder }

// optional reports whether the role may come without a token.
func (r role) optional() bool { return r == asFounder || r == asAnyone }

// connection is how a command finds its cluster and shows who asks. A token is never a flag: others see a command line.
type connection struct {
	role      role
	masters   []string
	tokenFile string // of the admin token where the role has that
	cluster   string
}

// addConnection gives a command, and those below it, the flags that say where the cluster is.
func addConnection(cmd *cobra.Command, r role) *connection {
	return addConnectionFlags(cmd, cmd.PersistentFlags(), r)
}

// addLocalConnection gives them to the command alone: those below it show another token.
func addLocalConnection(cmd *cobra.Command, r role) *connection {
	return addConnectionFlags(cmd, cmd.Flags(), r)
}

func addConnectionFlags(cmd *cobra.Command, flags *pflag.FlagSet, r role) *connection {
	c := &connection{role: r}
	flags.StringSliceVar(&c.masters, "masters", nil, "`URLs` of the masters, all or some (or "+envMasters+")")
	name, usage := "token-file", "`file` with the project's token (or "+envToken+")"
	if r.admin() {
		name, usage = "admin-token-file", "`file` with the admin token (or "+envAdminToken+")"
	}
	flags.StringVar(&c.tokenFile, name, "", usage)
	flags.StringVar(&c.cluster, "cluster", "", "cluster `file` to take masters and token from (default "+
		defaultClusterFile()+" where it is there and nothing else is given)")
	mustComplete(cobra.MarkFlagFilename(flags, "cluster", "json"))
	mustComplete(cobra.MarkFlagFilename(flags, name))
	mustComplete(cmd.RegisterFlagCompletionFunc("masters", cobra.NoFileCompletions))
	return c
}

// mustComplete takes the error of naming a flag that the command does not have: a mistake in the lines above it.
func mustComplete(err error) {
	if err != nil {
		panic(err)
	}
}

// open makes the client; retryFor is of [client.Config].
func (c *connection) open(retryFor time.Duration) (*client.Client, error) {
	masters, token, err := c.resolve()
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Masters: masters, Token: token, RetryFor: retryFor})
}

// resolve finds masters and token: each from its own flag, else from --cluster, else from the environment. Where none
// of them gives anything the default cluster file does; it never mixes with the others, so that a token goes to no
// cluster but its own.
func (c *connection) resolve() (masters []string, token string, err error) {
	envTok := strings.TrimSpace(os.Getenv(c.envToken()))
	envURLs := splitURLs(os.Getenv(envMasters))
	file := c.cluster
	if file == "" && len(c.masters) == 0 && c.tokenFile == "" && envTok == "" && len(envURLs) == 0 {
		if _, err := os.Stat(defaultClusterFile()); err == nil {
			file = defaultClusterFile()
		}
	}
	if file != "" {
		if masters, token, err = c.fromFile(file); err != nil {
			return nil, "", err
		}
	}
	if len(c.masters) > 0 {
		masters = c.masters
	}
	if c.tokenFile != "" {
		if token, err = readSecret(c.tokenFile, ""); err != nil {
			return nil, "", err
		}
	}
	if len(masters) == 0 {
		masters = envURLs
	}
	if token == "" {
		token = envTok
	}
	switch {
	case len(masters) == 0 && c.role.optional():
		return nil, "",
			fmt.Errorf("no cluster is named: give --cluster DIR/cluster.json, or --masters URL,…, or set %s",
				envMasters)
	case c.role.optional() && token == "":
	case len(masters) == 0:
		return nil, "", fmt.Errorf("no cluster is named: give --cluster DIR/cluster.json, or --masters URL,… with "+
			"--%s FILE, or set %s and %s", c.tokenFlag(), envMasters, c.envToken())
	case token == "" && file != "":
		return nil, "", fmt.Errorf("%s holds no %s yet: give --%s FILE or set %s", file, c.tokenName(), c.tokenFlag(),
			c.envToken())
	case token == "":
		return nil, "", fmt.Errorf("no %s is given: give --%s FILE, or --cluster DIR/cluster.json, or set %s",
			c.tokenName(), c.tokenFlag(), c.envToken())
	}
	return masters, token, nil
}

// fromFile takes what the role needs from a cluster file.
func (c *connection) fromFile(path string) (masters []string, token string, err error) {
	f, err := devcluster.ReadClusterFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: 'chainstore dev' writes it into its folder", err)
	}
	if err != nil {
		return nil, "", err
	}
	switch {
	case c.role.admin(), c.role != asProject && f.Tokens.Project == "":
		token = f.Tokens.Admin
	default:
		token = f.Tokens.Project
	}
	return f.Masters, token, nil
}

func (c *connection) envToken() string {
	if c.role.admin() {
		return envAdminToken
	}
	return envToken
}

func (c *connection) tokenFlag() string {
	if c.role.admin() {
		return "admin-token-file"
	}
	return "token-file"
}

func (c *connection) tokenName() string {
	if c.role.admin() {
		return "admin token"
	}
	return "project token"
}

// splitURLs splits at commas and white space.
func splitURLs(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return r == ',' || r == ' ' || r == '\t' || r == '\n' ||
			r == '\r'
	})
}
