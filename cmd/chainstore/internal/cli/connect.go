// Package cli has what the commands share: the flags that name a cluster and its tokens, questions, and exit statuses.
package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// Environment variables that replace flags.
const (
	EnvMasters      = "CHAINSTORE_MASTERS"
	EnvToken        = "CHAINSTORE_TOKEN"
	EnvAdminToken   = "CHAINSTORE_ADMIN_TOKEN"
	EnvClusterToken = "CHAINSTORE_CLUSTER_TOKEN"
)

// DefaultClusterFile returns the path of the cluster file that `chainstore dev` writes below the current folder.
func DefaultClusterFile() string { return devcluster.ClusterFilePath("chainstore-data") }

// Role selects the token that a command sends.
type Role int

const (
	AsProject Role = iota // a project token, to append and to read
	AsAny                 // a project token or the admin token, for status
	AsAdmin               // the admin token
	AsFounder             // the admin token if one is given; clusters with open registration need none
	AsAnyone              // a project token if one is given; only a private log needs one
)

// admin reports whether the role's token is the admin token.
func (r Role) admin() bool { return r == AsAdmin || r == AsFounder }

// optional reports whether the role works without a token.
func (r Role) optional() bool { return r == AsFounder || r == AsAnyone }

// token returns the name of the role's token, its flag and its environment variable.
func (r Role) token() (name, flag, env string) {
	if r.admin() {
		return "admin token", "admin-token-file", EnvAdminToken
	}
	return "project token", "token-file", EnvToken
}

// connection holds the flags that name a cluster and a token. The token itself is never a flag, because other users
// can see a command line.
type connection struct {
	role      Role
	masters   []string
	tokenFile string // with the admin token or a project token, depending on the role
	cluster   string
	ca        string // file, see AddCA
}

// resolve finds masters and token, each from its own flag, else from --cluster, else from the environment. The default
// cluster file is used only if none of these is set, so that a token is never sent to another cluster.
func (c *connection) resolve() (masters []string, token string, err error) {
	tokenName, tokenFlag, tokenEnv := c.role.token()
	envTok := strings.TrimSpace(os.Getenv(tokenEnv))
	envURLs := splitURLs(os.Getenv(EnvMasters))
	file := c.cluster
	if file == "" && len(c.masters) == 0 && c.tokenFile == "" && envTok == "" && len(envURLs) == 0 {
		if _, err := os.Stat(DefaultClusterFile()); err == nil {
			file = DefaultClusterFile()
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
		read := ReadSecret
		if c.role.admin() {
			read = ReadPrivateSecret
		}
		if token, err = read(c.tokenFile, ""); err != nil {
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
		return nil, "", fmt.Errorf("no cluster is named: give --cluster DIR/cluster.json, or --masters URL,…, or "+
			"set %s", EnvMasters)
	case c.role.optional() && token == "":
	case len(masters) == 0:
		return nil, "", fmt.Errorf("no cluster is named: give --cluster DIR/cluster.json, or --masters URL,… with "+
			"--%s FILE, or set %s and %s", tokenFlag, EnvMasters, tokenEnv)
	case token == "" && file != "":
		return nil, "", fmt.Errorf("%s holds no %s yet: give --%s FILE or set %s", file, tokenName, tokenFlag,
			tokenEnv)
	case token == "":
		return nil, "", fmt.Errorf("no %s is given: give --%s FILE, or --cluster DIR/cluster.json, or set %s",
			tokenName, tokenFlag, tokenEnv)
	}
	return masters, token, nil
}

// fromFile reads the masters and the role's token from a cluster file.
func (c *connection) fromFile(path string) (masters []string, token string, err error) {
	f, err := devcluster.ReadClusterFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: 'chainstore dev' writes it into its folder", err)
	}
	if err != nil {
		return nil, "", err
	}
	if c.ca == "" {
		c.ca = f.CA
	}
	if c.role.admin() || c.role != AsProject && f.Tokens.Project == "" {
		return f.Masters, f.Tokens.Admin, nil
	}
	return f.Masters, f.Tokens.Project, nil
}

// splitURLs splits at commas and white space.
func splitURLs(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\n\r", r) })
}
