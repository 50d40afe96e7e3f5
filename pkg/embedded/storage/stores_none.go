//go:build !objectstorage

package storage

// objectStores is empty: the drivers would more than double the program.
func objectStores() map[string]factory { return nil }
