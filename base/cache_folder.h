/* Where what can be made again is kept between two runs: $XDG_CACHE_HOME/espalier/PART, or
 * ~/.cache/espalier/PART (XDG Base Directory Specification; a path that is not absolute counts as
 * none). */
#ifndef BASE_CACHE_FOLDER_H
#define BASE_CACHE_FOLDER_H

/* Its path, not made yet; caller frees. NULL: neither XDG_CACHE_HOME nor HOME says where. */
char *cache_folder(const char *part);

/* Each folder of the path that is not there. 0, or errno. */
int make_folders(const char *path);

#endif
