package token

import "time"

// Own are access tokens of a registry that gives them itself. They say who asks
// and not what he may, which it knows better at each request. Safe for
// concurrent use.
type Own struct {
	seal seal
	now  func() time.Time
}

const ownPrefix = "ocisync2."

// NewOwn signs with a key that nobody else has. clock may be nil.
func NewOwn(key []byte, clock func() time.Time) *Own {
	if clock == nil {
		clock = time.Now
	}
	return &Own{seal{ownPrefix, key}, clock}
}

// Whose returns the account that a token was given to, "" for an anonymous
// client. proofs are those of an account now, as in [Accounts]; ok is false of a
// token that is not good, or not any more.
func (o *Own) Whose(text string, proofs func(account string) [][]byte) (account string, ok bool) {
	account, _, ok = o.seal.open(text, o.now(), Life+Leeway, func(account string) [][]byte {
		if account == "" {
			return [][]byte{nil}
		}
		return proofs(account)
	})
	return account, ok
}

// token makes one for an account, and says when it was made.
func (o *Own) token(account string, proof []byte) (text string, made time.Time) {
	made = o.now().UTC()
	return o.seal.of(made, account, proof), made
}
